"""The attacks of group control."""
from harness import main

main("control")
