"""Those who can answer: the model in this process, and the providers outside."""
