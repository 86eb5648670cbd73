"""`python -m w2v_edge`, and so `torchrun -m w2v_edge`: the command line."""

from w2v_edge.cli import main

main()
