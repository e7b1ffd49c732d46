"""What logits are worth at decoding time, and heads of huge vocabularies."""
