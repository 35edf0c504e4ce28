"""Panels: what a person sees and presses, hosted by the front, out of the guest's reach."""
