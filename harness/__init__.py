"""What proves latprof right: real stacks started for tests, accuracy experiments, benchmarks. Not installed."""
