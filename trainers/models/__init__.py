"""Networks: `registry.build` makes one by name; one file a family."""
