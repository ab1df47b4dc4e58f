"""Tensors to distributions; no astronomy."""
