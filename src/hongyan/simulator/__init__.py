"""An operator to practise on: speaks the operator's side of the protocols, has handsets, fails on request.

behaviour.py what it may do · operator.py decides · centre.py plays it · smpp.py speaks · server.py starts and
stops all.
"""

from hongyan.simulator.behaviour import Behaviour, BehaviourError, Rule, described, parse
from hongyan.simulator.server import Simulator, serve

__all__ = ["Behaviour", "BehaviourError", "Rule", "Simulator", "described", "parse", "serve"]
