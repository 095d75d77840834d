"""The only code that knows OpenTelemetry or prometheus_client."""
