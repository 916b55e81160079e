"""The training of FDP: samples, the loop, the state of a run."""
