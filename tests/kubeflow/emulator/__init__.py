"""Runs a compiled package task by task the way Kubeflow Pipelines' driver, launcher and Argo do.

Comments name the file of the backend that a behaviour follows, below ``backend/src/v2`` of
``github.com/kubeflow/pipelines`` at its tag 2.17.0. Of a default installation's settings
``PUBLISH_LOGS=true`` matters here. In 2.5 to 2.16 the log's URI does not end in the attempt's number.

Left out, because the package has none of it, and refused where it had: nested DAGs, loops, exit handlers,
output parameters other than texts or in files of their own, placeholders other than ``{{$}}``, conditions
other than on a number of an artifact, importers that do not reimport.

Left out though a cluster has it:

- Argo: its limits (a task's timeout, the size of a workflow and of its parameters), its own process around
  the launcher, several tasks at once, and whom its retries are for: a failed container, as here, unless the
  controller's ``templateDefaults`` say ``retryPolicy: OnError``, as the manifests of 2.17.0 do;
- the Pod: image, user 65532 and security context, CPU, memory and GPU, network, the backend's own variables
  of the environment; this process stands for the launcher's, the command's parent;
- the object store: credentials and errors, and the second try after one; before 2.17 the download of
  ``model`` fetched ``model_run`` beside it, too;
- the log is written when the command has ended, not while it runs;
- ML Metadata: contexts, executions and their states, types; the cache knows no namespaces;
- how runs, recurring runs and rights come about, which is the API server's part.
"""
