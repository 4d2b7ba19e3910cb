"""The CuratedSchema stage: the schema that every Example is validated against."""
