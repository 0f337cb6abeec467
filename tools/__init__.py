"""What `./run` executes once the environment is there: services, processes, modes. Imports nothing of the product."""
