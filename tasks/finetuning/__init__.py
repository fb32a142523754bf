"""Fine-tuning a model on a dataset: what is framework-free here is shared by Hugging Face's and Keras's trainings."""
