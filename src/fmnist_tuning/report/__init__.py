"""What a study says, to people: read back from MLflow, put into words, figures and the journal."""
