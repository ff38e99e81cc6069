# Finished runs replayed into MLflow by one writer.


localrules:
    track,


rule track:
    input:
        metrics=every("metrics.json"),
    output:
        touch(f"{LOGS}/track-{SUITE.name}.json"),
    log:
        f"{LOGS}/track-{SUITE.name}.log",
    threads: 1
    params:
        suite=suite_file,
    shell:
        "cmkd track {params.suite:q} > {log:q} 2>&1"
