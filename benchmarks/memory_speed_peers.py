"""What a user would wire up instead, with the same vectors: run by `memory_speed`.

    python memory_speed_peers.py {chroma|mem0|lancedb|lancedb-hnsw} VECTORS.npy QUESTIONS.npy FOLDER

Prints one JSON object: how many vectors a second went in, and for each question its milliseconds
and the ten numbers found. Needs nothing of Sonia's: it runs in the peer's own environment.
"""

import json
import sys
import time
from functools import partial

import numpy as np

MEM0_MOST = 1_500


def chroma(vectors, questions, folder):
    import chromadb

    client = chromadb.PersistentClient(path=folder)
    collection = client.create_collection("memories", metadata={"hnsw:space": "cosine"})
    began = time.perf_counter()
    for at in range(0, len(vectors), 5000):
        rows = vectors[at : at + 5000]
        ids = [str(at + number) for number in range(len(rows))]
        collection.add(ids=ids, embeddings=rows, documents=["" for _ in ids])
    rate = len(vectors) / (time.perf_counter() - began)

    def ask(question):
        found = collection.query(query_embeddings=[question], n_results=10, include=[])
        return [int(number) for number in found["ids"][0]]

    return rate, ask


def lancedb(vectors, questions, folder, index=False):
    import lancedb as lance
    import pyarrow

    table = None
    db = lance.connect(folder)
    began = time.perf_counter()
    for at in range(0, len(vectors), 5000):
        rows = vectors[at : at + 5000]
        kept = pyarrow.FixedSizeListArray.from_arrays(rows.ravel(), vectors.shape[1])
        numbers = pyarrow.array(range(at, at + len(rows)))
        batch = pyarrow.table({"number": numbers, "vector": kept})
        if table is None:
            table = db.create_table("memories", batch)
        else:
            table.add(batch)
    if index:
        table.create_index(metric="cosine", index_type="IVF_HNSW_SQ", num_partitions=1)
    rate = len(vectors) / (time.perf_counter() - began)

    def ask(question):
        rows = table.search(question).distance_type("cosine").limit(10).to_list()
        return [row["number"] for row in rows]

    return rate, ask


def mem0(vectors, questions, folder):
    """As it comes (Qdrant in a folder), without its model: texts are kept as they are."""
    import os

    if len(vectors) > MEM0_MOST:
        sys.exit(f"mem0 writes about 20 a second: run it with --memories {MEM0_MOST} or fewer")
    os.environ |= {"MEM0_TELEMETRY": "False", "MEM0_DIR": folder, "OPENAI_API_KEY": "none"}
    from mem0 import Memory

    store = {"path": f"{folder}/store", "embedding_model_dims": vectors.shape[1]}
    memory = Memory.from_config({"vector_store": {"provider": "qdrant", "config": store}})
    known = {"m": vectors, "q": questions}

    class Known:
        config = memory.embedding_model.config

        def embed(self, text, memory_action=None):
            kind, number = text.split()
            return known[kind][int(number)].tolist()

        def embed_batch(self, texts, memory_action=None):
            return [self.embed(text) for text in texts]

    memory.embedding_model = Known()
    began = time.perf_counter()
    for number in range(len(vectors)):
        memory.add(f"m {number}", user_id="owner", infer=False)
    rate = len(vectors) / (time.perf_counter() - began)
    places = {row.tobytes(): number for number, row in enumerate(questions)}

    def ask(question):
        said = f"q {places[question.tobytes()]}"
        found = memory.search(said, filters={"user_id": "owner"}, top_k=10, threshold=0.0)
        return [int(hit["memory"].split()[1]) for hit in found["results"]]

    return rate, ask


PEERS = {
    "chroma": chroma,
    "lancedb": lancedb,
    "lancedb-hnsw": partial(lancedb, index=True),
    "mem0": mem0,
}


def main():
    name, vectors, questions, folder = sys.argv[1:]
    vectors, questions = np.load(vectors), np.load(questions)
    rate, ask = PEERS[name](vectors, questions, folder)
    ask(questions[0])
    took, found = [], []
    for question in questions:
        began = time.perf_counter()
        found.append(ask(question))
        took.append((time.perf_counter() - began) * 1000)
    print(json.dumps({"rate": rate, "ms": took, "found": found}))


if __name__ == "__main__":
    main()
