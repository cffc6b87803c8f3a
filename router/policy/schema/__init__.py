"""What may an operator write? One pydantic model per thing that a policy document can hold.

Unknown fields are refused, values keep their YAML type, and every field's docstring is what editors show. A new field
goes here, its meaning into `policy.compile_class` or `policy.compile_fleet`; the JSON Schema follows by itself.
"""
