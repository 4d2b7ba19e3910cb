"""Training on several machines: the Trainer's task has a job of a training operator's do it, and follows it.

The job's Pods, one a machine, run the entrypoint with the task's own arguments, but for paths: these are of a
directory that all see (`shared_dir`). There the first of them, the chief, keeps a log, which the task
repeats, and exports the model, which the task hands on. There, too, the task shows that it is alive: Pods
whose task is gone would hold their GPUs until the job's end.

A job that loses a Pod fails as a whole: the others cannot go on without it. What starts it again is the
task's own ``retries``, and it goes on from the chief's last checkpoint.
"""
