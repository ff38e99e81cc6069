"""How good a run is, and how sure we are: metrics, influence values, intervals, evaluation."""
