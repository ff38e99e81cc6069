# From recordings, fetched where the suite says so, to clips and their statistics.


localrules:
    download,


rule download:
    output:
        f"{SUITE.downloads}/{{dataset}}/{downloads.MARKER}",
    log:
        f"{LOGS}/download/{{dataset}}.log",
    threads: 1
    params:
        wanted=data_file,
        options=download_options,
    shell:
        # On the screen too: it shows the licence, and it takes long.
        "cmkd prepare {params.wanted:q} {params.options:q} 2>&1 | tee {log:q}"


rule prepare:
    input:
        wanted=wanted_data,
        downloaded=downloaded,
    output:
        multiext(
            f"{PREPARED}/",
            *agreement.PREPARED,
        ),
    log:
        f"{LOGS}/prepare/{{dataset}}.log",
    threads: SUITE.execution["workers"]
    params:
        prepared=PREPARED,
        data_root=data_root_option,
    shell:
        # On a cluster, as many workers as the job was given processors.
        "cmkd prepare {input.wanted:q} --prepared {params.prepared:q} {params.data_root:q}"
        ' --workers "${{SLURM_CPUS_PER_TASK:-{threads}}}" > {log:q} 2>&1'


rule stats:
    input:
        manifest=manifest,
        changed=changed_manifest,
    output:
        statistics=f"{PREPARED}/stats/{{frontend}}/fold-{{fold}}.json",
        hash=f"{PREPARED}/stats/{{frontend}}/fold-{{fold}}.json.sha256",
    log:
        f"{LOGS}/stats/{{dataset}}/{{frontend}}/fold-{{fold}}.log",
    threads: 1
    params:
        prepared=PREPARED,
        frontend=frontend_options,
    shell:
        "cmkd stats --prepared {params.prepared:q} --fold {wildcards.fold} {params.frontend:q}"
        " --out {output.statistics:q} > {log:q} 2>&1"
