"""Decides capability requests, keeps secrets, and writes down what was decided."""
