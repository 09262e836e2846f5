"""Writing text token by token: prefill, cached decoding, sampling."""
