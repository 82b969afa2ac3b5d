"""The data plane: routes each session to the pod that holds its state."""
