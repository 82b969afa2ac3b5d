"""`python -m bench`: what there is to measure."""

from bench import wire

wire.main()
