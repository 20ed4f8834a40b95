"""What a user would wire up instead, with the same vectors: run by `memory_speed`.

    python memory_speed_peers.py {chroma|lancedb|lancedb-hnsw} VECTORS.npy QUESTIONS.npy FOLDER

Prints one JSON object: how many vectors a second went in, and for each question its milliseconds
and the ten numbers found. Needs nothing of Sonia's: it runs in the peer's own environment.
"""

import json
import sys
import time

import numpy as np


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


def main():
    name, vectors, questions, folder = sys.argv[1:]
    vectors, questions = np.load(vectors), np.load(questions)
    if name == "chroma":
        rate, ask = chroma(vectors, questions, folder)
    else:
        rate, ask = lancedb(vectors, questions, folder, index=name == "lancedb-hnsw")
    ask(questions[0])
    took, found = [], []
    for question in questions:
        began = time.perf_counter()
        found.append(ask(question))
        took.append((time.perf_counter() - began) * 1000)
    print(json.dumps({"rate": rate, "ms": took, "found": found}))


if __name__ == "__main__":
    main()
