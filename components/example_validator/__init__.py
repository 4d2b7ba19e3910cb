"""The ExampleValidator stage: ends the run where the Examples are not what the schema says."""
