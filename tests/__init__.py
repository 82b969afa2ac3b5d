"""A regular package: a namespace package would give way to any `tests` that a dependency installs."""
