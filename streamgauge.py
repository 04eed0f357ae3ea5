"""Streamgauge: streamed model answers, kept and timed."""
