# The leaderboard, the claims and the figures, from finished runs alone.


localrules:
    tables,


rule tables:
    input:
        metrics=every("metrics.json"),
        scores=every("scores.npz"),
        rows=wanted_rows,
    output:
        tables=[f"{TABLES}/leaderboard.{kind}" for kind in ("csv", "md", "html")],
        claims=[f"{TABLES}/claims.{kind}" for kind in ("csv", "md")],
        figures=figures(),
        rows=str(AGREEMENT.rows_record()),
    log:
        f"{LOGS}/tables-{SUITE.name}.log",
    threads: 1
    params:
        suite=suite_file,
    shell:
        "cmkd tables {params.suite:q} > {log:q} 2>&1 && cp {input.rows:q} {output.rows:q}"
