"""The walls: what a zygote stages once (``stage``), what each guest enters (``enter``)."""
