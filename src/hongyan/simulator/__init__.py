"""An operator to practise on: speaks the operator's side of the protocols, has handsets, fails on request.

behaviour.py what it may do · operator.py decides · centre.py plays it · line.py is one connection · smpp.py
cmpp.py sgip.py smgp.py are its words, formats.py what the last three share · server.py starts and stops all.
"""

from hongyan.simulator.behaviour import Behaviour, BehaviourError, Protocol, Rule, described, parse
from hongyan.simulator.server import Door, Simulator, serve

__all__ = [
    "Behaviour",
    "BehaviourError",
    "Door",
    "Protocol",
    "Rule",
    "Simulator",
    "described",
    "parse",
    "serve",
]
