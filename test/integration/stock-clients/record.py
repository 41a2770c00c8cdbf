"""Records what a stock client of the Open Inference Protocol sends, into tritonclient.json or kserve.json:

    python3 -m venv venv && venv/bin/pip install "tritonclient[http,grpc]==2.73.0" kserve==0.21.0
    venv/bin/python record.py tritonclient && venv/bin/python record.py kserve

The client asks small servers in this process, which keep the bytes as they come and give an answer that the client takes. One client a
process: both register the protocol's messages under the same names.
"""

import asyncio
import base64
import json
import pathlib
import socket
import sys
import threading
from concurrent import futures
from importlib.metadata import version

import grpc
import numpy as np

ROW = np.array([[5.1, 3.5, 1.4, 0.2]], dtype=np.float32)
ANSWER = {
    "model_name": "flowers",
    "model_version": "1",
    "id": "q1",
    "outputs": [{"name": "logits", "datatype": "FP32", "shape": [1, 3], "data": [1.0, 2.0, 3.0]}],
}


def record_http():
    """A server of one connection at a time, and the list that it fills."""
    taken = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            connection, _ = listener.accept()
            with connection, connection.makefile("rb") as stream:
                while head := read_head(stream):
                    lines = head.decode().split("\r\n")
                    headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
                    taken.append((head, stream.read(int(headers.get("content-length", 0)))))
                    body = json.dumps(ANSWER).encode()
                    connection.sendall(
                        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body
                    )

    threading.Thread(target=serve, daemon=True).start()
    return listener.getsockname()[1], taken


def read_head(stream):
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        line = stream.readline()
        if not line:
            return b""
        head += line
    return head


def record_grpc(Response):
    taken = []

    class Handler(grpc.GenericRpcHandler):
        def service(self, details):
            def answer(request, _):
                taken.append((details.method, request))
                logits = {"name": "logits", "datatype": "FP32", "shape": [1, 3], "contents": {"fp32_contents": [1, 2, 3]}}
                return Response(model_name="flowers", model_version="1", outputs=[logits]).SerializeToString()

            return grpc.unary_unary_rpc_method_handler(answer)

    server = grpc.server(futures.ThreadPoolExecutor(2), handlers=[Handler()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return server, port, taken


def triton_over_http(port):
    import tritonclient.http as triton_http

    client = triton_http.InferenceServerClient(f"127.0.0.1:{port}")

    def given(binary):
        one = triton_http.InferInput("input", [1, 4], "FP32")
        one.set_data_from_numpy(ROW, binary_data=binary)
        return [one]

    def wanted(binary):
        return [triton_http.InferRequestedOutput("logits", binary_data=binary)]

    yield "JSON", lambda: client.infer("flowers", given(False), outputs=wanted(False))
    yield "JSON with an id and parameters", lambda: client.infer(
        "flowers", given(False), outputs=wanted(False), request_id="q1", priority=1, timeout=1000000, parameters={"tenant": "a"}
    )
    yield "binary", lambda: client.infer("flowers", given(True))
    yield "binary with an id, outputs named", lambda: client.infer("flowers", given(True), outputs=wanted(True), request_id="q1")
    yield "binary, answered in JSON, of a version", lambda: client.infer(
        "flowers", given(True), outputs=wanted(False), model_version="1"
    )
    yield "JSON, answered in binary", lambda: client.infer("flowers", given(False), outputs=wanted(True))
    yield "compressed", lambda: client.infer("flowers", given(True), request_compression_algorithm="gzip")
    yield "metadata", lambda: client.get_model_metadata("flowers")
    yield "readiness", lambda: client.is_model_ready("flowers", "1")


def triton_over_grpc(port):
    import tritonclient.grpc as triton_grpc

    client = triton_grpc.InferenceServerClient(f"127.0.0.1:{port}")
    given = triton_grpc.InferInput("input", [1, 4], "FP32")
    given.set_data_from_numpy(ROW)
    yield "raw contents", lambda: client.infer("flowers", [given])
    yield "raw contents with an id, parameters and outputs named", lambda: client.infer(
        "flowers",
        [given],
        outputs=[triton_grpc.InferRequestedOutput("logits")],
        request_id="q1",
        model_version="1",
        priority=1,
        parameters={"tenant": "a"},
    )


def kserve_request(data, **more):
    import kserve

    given = kserve.InferInput("input", [1, 4], "FP32", data=data if isinstance(data, list) else None)
    if not isinstance(data, list):
        given.set_data_from_numpy(data, binary_data=True)
    return kserve.InferRequest("flowers", [given], **more)


def kserve_over_http(port):
    from kserve.inference_client import InferenceRESTClient, RESTConfig

    def ask(request):
        async def run():
            client = InferenceRESTClient(RESTConfig(protocol="v2", retries=0))
            await client.infer(f"http://127.0.0.1:{port}", request, model_name="flowers")
            await client.close()

        asyncio.run(run())

    yield "JSON", lambda: ask(kserve_request(ROW.flatten().tolist()))
    yield "JSON with an id and parameters", lambda: ask(
        kserve_request(ROW.flatten().tolist(), request_id="q1", parameters={"tenant": "a"})
    )
    yield "binary", lambda: ask(kserve_request(ROW, request_id="q1", parameters={"binary_data_output": True}))


def kserve_over_grpc(port):
    from kserve.inference_client import InferenceGRPCClient

    def ask(request):
        async def run():
            client = InferenceGRPCClient(f"127.0.0.1:{port}", retries=0)
            await client.infer(request)
            await client.close()

        asyncio.run(run())

    yield "typed contents", lambda: ask(kserve_request(ROW.flatten().tolist()))
    yield "typed contents with an id and parameters", lambda: ask(
        kserve_request(ROW.flatten().tolist(), request_id="q1", parameters={"tenant": "a"})
    )
    yield "raw contents", lambda: ask(kserve_request(ROW, request_id="q1"))


def response_of(client):
    if client == "tritonclient":
        from tritonclient.grpc import service_pb2

        return service_pb2.ModelInferResponse
    from kserve.protocol.grpc import grpc_predict_v2_pb2

    return grpc_predict_v2_pb2.ModelInferResponse


CLIENTS = {"tritonclient": (triton_over_http, triton_over_grpc), "kserve": (kserve_over_http, kserve_over_grpc)}


def recorded(calls, taken):
    """What each call sent last, by name."""
    for name, call in calls:
        taken.clear()
        call()
        yield name, taken[-1]


def main(client):
    over_http, over_grpc = CLIENTS[client]
    http_port, http_taken = record_http()
    server, grpc_port, grpc_taken = record_grpc(response_of(client))
    http = [
        {"name": name, "head": head.decode().replace(f":{http_port}", ""), "body": base64.b64encode(body).decode()}
        for name, (head, body) in recorded(over_http(http_port), http_taken)
    ]
    messages = [
        {"name": name, "method": method, "message": base64.b64encode(message).decode()}
        for name, (method, message) in recorded(over_grpc(grpc_port), grpc_taken)
    ]
    server.stop(None)
    path = pathlib.Path(__file__).with_name(f"{client}.json")
    path.write_text(json.dumps({"client": f"{client} {version(client)}", "http": http, "grpc": messages}, indent=2) + "\n")


main(sys.argv[1])
