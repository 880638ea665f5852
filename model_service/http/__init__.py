"""How requests come over HTTP and answers leave: the paths, the fast way past FastAPI, and uvicorn beneath both."""
