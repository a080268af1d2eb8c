"""Real servers that the tests start: PostgreSQL here, slapd with `deploy.demo.slapd`."""
