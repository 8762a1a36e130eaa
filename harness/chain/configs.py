"""The components' configurations as text: pure functions of ports and options."""

from __future__ import annotations

import json

MODEL_NAME = "tiny"
"""The model's name, at every hop."""

HAPROXY_TIMERS_HEADER = "x-haproxy-timers"
"""HAProxy's timers at response headers, in whole ms: ``Th=0;Ti=0;TR=0;Tw=0;Tc=0;Tr=31``."""


def haproxy(*, port: int, upstream_port: int, http_no_delay: bool) -> str:
    """HAProxy in front of one upstream. Without ``http_no_delay`` it holds small chunks back: a real buffering hop."""
    return f"""\
global
    log stdout format raw local0
    maxconn 1000
    nbthread 1
defaults
    mode http
    log global
    {"option http-no-delay" if http_no_delay else "# no http-no-delay: small chunks wait for company"}
    timeout connect 5s
    timeout client 120s
    timeout server 120s
    log-format "%{{+Q}}r %ST Th=%Th Ti=%Ti TR=%TR Tw=%Tw Tc=%Tc Tr=%Tr Td=%Td Ta=%Ta"
frontend entry
    bind 127.0.0.1:{port}
    http-response add-header {HAPROXY_TIMERS_HEADER} "Th=%Th;Ti=%Ti;TR=%TR;Tw=%Tw;Tc=%Tc;Tr=%Tr"
    default_backend upstream
backend upstream
    server upstream 127.0.0.1:{upstream_port}
"""


def envoy(*, port: int, admin_port: int, upstream_port: int, otlp_grpc_port: int) -> str:
    """Envoy with OTLP spans for both of its sides (JSON, which is YAML)."""
    return json.dumps(
        {
            "admin": {"address": _socket(admin_port)},
            # Spans wait for five seconds or five of them by default.
            "layered_runtime": {"layers": [{"name": "static", "static_layer": _EXPORT_SOON}]},
            "static_resources": {
                "listeners": [{"name": "entry", "address": _socket(port), "filter_chains": [{"filters": [_connection_manager()]}]}],
                "clusters": [_cluster("litellm", upstream_port), _cluster("otlp", otlp_grpc_port, http2=True)],
            },
        },
        indent=1,
    )


_EXPORT_SOON = {"tracing.opentelemetry.flush_interval_ms": 500, "tracing.opentelemetry.min_flush_spans": 1}
_TYPES = "type.googleapis.com/envoy."


def _socket(port: int) -> dict[str, object]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _connection_manager() -> dict[str, object]:
    network = f"{_TYPES}extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
    routes = [{"match": {"prefix": "/"}, "route": {"cluster": "litellm", "timeout": "0s"}}]
    return {
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": network,
            "stat_prefix": "entry",
            "stream_idle_timeout": "0s",
            "tracing": {"random_sampling": {"value": 100}, "spawn_upstream_span": True, "provider": _tracer()},
            "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
            "http_filters": [
                {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{_TYPES}extensions.filters.http.router.v3.Router"}}
            ],
        },
    }


def _tracer() -> dict[str, object]:
    return {
        "name": "envoy.tracers.opentelemetry",
        "typed_config": {
            "@type": f"{_TYPES}config.trace.v3.OpenTelemetryConfig",
            "service_name": "envoy",
            "grpc_service": {"envoy_grpc": {"cluster_name": "otlp"}, "timeout": "1s"},
        },
    }


def _cluster(name: str, port: int, *, http2: bool = False) -> dict[str, object]:
    cluster: dict[str, object] = {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _socket(port)}}]}]},
    }
    if http2:
        options = {
            "@type": f"{_TYPES}extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http2_protocol_options": {}},
        }
        cluster["typed_extension_protocol_options"] = {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options}
    return cluster


def litellm(*, upstream_port: int, master_key: str) -> str:
    """LiteLLM's proxy in front of an OpenAI-compatible server (JSON, which is YAML).

    It forwards the *incoming* ``traceparent`` as it is: what it calls is a sibling of its own span, not a child.
    """
    model = {"model": f"openai/{MODEL_NAME}", "api_base": f"http://127.0.0.1:{upstream_port}/v1", "api_key": "none"}
    return json.dumps(
        {
            "model_list": [{"model_name": MODEL_NAME, "litellm_params": model}],
            "litellm_settings": {"callbacks": ["otel"], "forward_traceparent_to_llm_provider": True, "num_retries": 0},
            "general_settings": {"master_key": master_key},
        },
        indent=1,
    )


def litellm_environment(*, otlp_grpc_port: int, home: str) -> dict[str, str]:
    """Everything LiteLLM may see: nobody's own ``OTEL_*``, keys or home."""
    return {
        "PATH": "/usr/bin:/bin",
        "HOME": home,
        "LITELLM_DETAILED_TIMING": "true",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # else it fetches prices from the network
        "OTEL_EXPORTER": "otlp_grpc",
        "OTEL_ENDPOINT": f"http://127.0.0.1:{otlp_grpc_port}",
        "OTEL_BSP_SCHEDULE_DELAY": "500",  # 5 s by default
        "PYTHONFAULTHANDLER": "1",
        # Python 3.11 may collect garbage in the middle of ContextVar.set, and LiteLLM's finalizers set them: a crash in about 4 000 requests
        # (python/cpython#148891). Without the collector it grows by 0.1 MB a request.
        "PYTHON_GC_THRESHOLD": "0,0,0",
        "PYTHONUNBUFFERED": "1",
    }
