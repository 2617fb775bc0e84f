"""What the imitation answers, per provider.

Imports: errors model.calendar sim.imitation sim.questions sim.policy sim.faults sim.market
"""
