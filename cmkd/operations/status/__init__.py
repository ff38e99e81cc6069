"""The verb `status`: what a suite is doing, from its files and, where there is one, Slurm's queue.

Nothing is asked of a running program. What is not checked, so that thousands of runs are seen in
seconds, stands in cmkd/operations/status/runs.py.
"""
