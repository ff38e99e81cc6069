# Front door: `snakemake --cores all` from the root. Everything is in workflow/.
include: "workflow/Snakefile"


# An included file's default target does not count, so it is named here again.
rule default:
    default_target: True
    input:
        rules.all.input,


localrules:
    default,
