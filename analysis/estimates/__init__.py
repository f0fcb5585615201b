"""What trials say: values with intervals."""
