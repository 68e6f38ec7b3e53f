"""What an operator sees first when something is wrong: `report` is its form, `worker` puts it together."""
