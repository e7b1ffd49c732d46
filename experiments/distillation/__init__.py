"""Students of a teacher's logits, and models that approximate others."""
