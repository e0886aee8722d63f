"""The paper's 2-D example as a study: train, draw, score against the truth, and see why."""
