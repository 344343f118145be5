// A bad network between a client and the door, on loopback: cuts, silence, delay, and a middleman that knows no WebSockets.

import { createConnection, createServer, type AddressInfo, type Server, type Socket } from "node:net";

export class FaultProxy {
  #server: Server;
  #pairs = new Set<[Socket, Socket]>();
  #all = new Set<Socket>();
  /** Nothing gets through, and nobody is told: a half-open connection. */
  silent = false;
  /** No WebSocket gets through: its handshake is answered by the middleman. */
  blocksSockets = false;
  /** Whatever passes is held up so long. */
  delayMs = 0;
  /** Connections are cut once so many bytes came from the door, in the middle of whatever that is. */
  cutAfter = Infinity;
  connections = 0;

  private constructor(server: Server) {
    this.#server = server;
  }

  /** A proxy to a port, which may change. */
  static start(target: () => number): Promise<FaultProxy> {
    const server = createServer({ noDelay: true });
    const proxy = new FaultProxy(server);
    server.on("connection", (client) => proxy.#pass(client, target()));
    return new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(proxy)));
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  /** Cuts all connections there are. */
  cut(): void {
    for (const [client, door] of this.#pairs) {
      client.resetAndDestroy();
      door.destroy();
    }
  }

  end(): Promise<void> {
    this.cut();
    for (const socket of this.#all) socket.destroy();
    return new Promise((resolve) => this.#server.close(() => resolve()));
  }

  #pass(client: Socket, port: number): void {
    this.connections++;
    const door = createConnection({ port, host: "127.0.0.1", noDelay: true });
    const pair: [Socket, Socket] = [client, door];
    this.#pairs.add(pair);
    for (const socket of pair) {
      this.#all.add(socket);
      socket.on("close", () => this.#all.delete(socket));
    }
    const { cutAfter } = this;
    let passed = 0;
    // What was not passed on leaves a hole: nothing may follow it.
    let dead = false;
    const forward = (from: Socket, to: Socket, fromDoor: boolean) => {
      const write = (data: Buffer) => {
        dead ||= this.silent;
        if (dead || to.destroyed) return;
        if (!to.write(data)) {
          from.pause();
          to.once("drain", () => from.resume());
        }
      };
      from.on("data", (data: Buffer) => {
        if (!fromDoor && this.blocksSockets && /upgrade: websocket/i.test(data.toString("latin1"))) {
          client.end("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
          return door.destroy();
        }
        if (fromDoor && passed + data.length > cutAfter) {
          write(data.subarray(0, cutAfter - passed));
          client.end();
          return door.destroy();
        }
        passed += fromDoor ? data.length : 0;
        // What was held up comes in order, and nothing after the end of it.
        if (this.delayMs) setTimeout(() => write(data), this.delayMs);
        else write(data);
      });
      from.on("error", () => {});
      from.on("close", () => {
        this.#pairs.delete(pair);
        // A silent network does not tell of an end either.
        if (!dead && !this.silent) to.destroy();
      });
    };
    forward(client, door, false);
    forward(door, client, true);
  }
}
