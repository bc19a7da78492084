"""Where packets enter and leave the link: TUN devices, memory, ZeroMQ; and the network namespaces that they live in."""
