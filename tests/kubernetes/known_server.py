"""What is known of tensorflow_model_server: its flags and its metrics.

Taken from TensorFlow Serving's sources; nothing here asks a running server.
"""

import re
from typing import Final

FLAGS: Final = {
    # tensorflow_serving/model_servers/main.cc, those that a manifest may want.
    "port",
    "rest_api_port",
    "rest_api_num_threads",
    "rest_api_timeout_in_ms",
    "grpc_max_threads",
    "grpc_channel_arguments",
    "ssl_config_file",
    "model_config_file",
    "model_config_file_poll_wait_seconds",
    "file_system_poll_wait_seconds",
    "allow_version_labels_for_unavailable_models",
    "max_num_load_retries",
    "load_retry_interval_micros",
    "enable_model_warmup",
    "enable_batching",
    "batching_parameters_file",
    "tensorflow_intra_op_parallelism",
    "tensorflow_inter_op_parallelism",
    "per_process_gpu_memory_fraction",
    "monitoring_config_file",
}

BATCHING_PARAMETERS: Final = {
    # tensorflow_serving/servables/tensorflow/session_bundle_config.proto; these are messages with a value …
    *("max_batch_size", "batch_timeout_micros", "max_enqueued_batches", "num_batch_threads"),
    # … and this one is repeated.
    "allowed_batch_sizes",
}

COUNTERS: Final = {
    # tensorflow_serving/servables/tensorflow/util.cc
    ":tensorflow:serving:request_count": {"model_name", "status"},
    # tensorflow_serving/batching/batching_session.cc
    ":tensorflow:serving:batching_session:wrapped_run_count": set[str](),
    # tensorflow/cc/saved_model/loader.cc; load_latency is a counter of microseconds.
    ":tensorflow:cc:saved_model:load_attempt_count": {"model_path", "status"},
    ":tensorflow:cc:saved_model:load_latency": {"model_path"},
}
HISTOGRAMS: Final = {
    # tensorflow_serving/servables/tensorflow/util.cc
    ":tensorflow:serving:request_latency": {"model_name", "API", "entrypoint"},
    ":tensorflow:serving:runtime_latency": {"model_name", "API", "runtime"},
    # tensorflow_serving/servables/tensorflow/saved_model_warmup_util.cc
    ":tensorflow:serving:model_warmup_latency": {"model_path", "status"},
    # tensorflow_serving/batching/batching_session.cc
    ":tensorflow:serving:batching_session:queuing_latency": {"thread_pool_name"},
}
SERIES: Final = {
    # tensorflow_serving/util/prometheus_exporter.cc: "/" becomes ":", a histogram three series.
    **COUNTERS,
    **{
        name + suffix: labels | ({"le"} if suffix == "_bucket" else set())
        for name, labels in HISTOGRAMS.items()
        for suffix in ("_bucket", "_sum", "_count")
    },
}
"""Every series that the server exports and the manifests may ask for, with its labels."""


def takes_probes_for_requests(expression: str) -> bool:
    """Whether PromQL counts the GETs of REST that probes send, too (http_server.cc, ProcessRequest).

    They are OK in request_count, and in request_latency have an empty API; only predictions have one.
    """
    found = re.findall(r":tensorflow:serving:request_(count|latency)\w*(?:\{([^}]*)\})?(.)", expression + " ")
    for series, labels, behind in found:
        # What names a series, and asks for no number.
        if behind not in "[":
            continue
        if series == "latency" and 'API=~"[Pp]redict"' not in labels:
            return True
        if series == "count":
            matched = re.search(r'status(=|=~|!=|!~)"([^"]*)"', labels)
            if matched is None:
                return True
            is_ok = bool(re.fullmatch(matched[2], "OK"))
            if is_ok != matched[1].startswith("!"):
                return True
    return False
