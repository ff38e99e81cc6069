# One training: a model alone, or taught by a run of the same dataset, fold and seed.


rule train:
    input:
        wanted=wanted_run,
        clips=clips_to_train,
        statistics=statistics,
        initial=initial_weights,
    output:
        [f"{ALONE}/{name}" for name in agreement.TRAINED],
    log:
        f"{LOGS}/train/{{dataset}}/{{link}}/fold-{{fold}}/seed-{{seed}}.log",
    threads: SUITE.execution["threads"]
    resources:
        gpu=SUITE.execution["gpus"],
    params:
        run=run_folder,
        prepared=PREPARED,
        statistics=statistics_file,
        teacher=[],
        initial=initial_option,
        execution=execution_file,
        budget=budget_options,
    shell:
        "cmkd train {input.wanted:q} --run {params.run:q}"
        " --fold {wildcards.fold} --seed {wildcards.seed}"
        " --prepared {params.prepared:q} --statistics {params.statistics:q}"
        " {params.teacher:q} {params.initial:q}"
        " --execution {params.execution:q} {params.budget:q} > {log:q} 2>&1"


use rule train as distill with:
    input:
        wanted=wanted_run,
        clips=clips_to_train,
        statistics=statistics,
        initial=initial_weights,
        teacher=f"{TEACHER}/weights.safetensors",
    output:
        [f"{TAUGHT}/{name}" for name in agreement.TRAINED],
    log:
        f"{LOGS}/train/{{dataset}}/{{link}}@{{teacher}}/fold-{{fold}}/seed-{{seed}}.log",
    params:
        teacher=["--teacher", TEACHER],
