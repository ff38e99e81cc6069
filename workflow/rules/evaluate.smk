# Scores of a run's test clips, and the metrics that end it.


rule evaluate:
    input:
        weights=f"{RUN}/weights.safetensors",
        clips=clips_to_score,
    output:
        [f"{RUN}/{name}" for name in agreement.EVALUATED],
    log:
        f"{LOGS}/evaluate/{{dataset}}/{{run}}/fold-{{fold}}/seed-{{seed}}.log",
    threads: SUITE.execution["threads"]
    resources:
        gpu=1,
    params:
        run=run_folder,
        prepared=PREPARED,
        execution=execution_file,
    shell:
        "cmkd evaluate --run {params.run:q} --prepared {params.prepared:q}"
        " --execution {params.execution:q} > {log:q} 2>&1"
