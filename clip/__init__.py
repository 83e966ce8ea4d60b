"""OpenAI-compatible CLIP, with dense features; see clip/model.py."""
