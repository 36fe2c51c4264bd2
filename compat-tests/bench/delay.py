"""Passes TCP on to another port of this machine as a long and narrow line would: each piece half a round trip later, and what
comes back at so many bytes a second for each connection.

    python3 delay.py LISTEN-PORT TO-PORT ROUND-TRIP-MS BYTES-A-SECOND
"""
import asyncio
import sys

PIECE = 1 << 16
AHEAD = 64  # pieces on their way in one direction: what a wide line holds


async def carry(reader, writer, seconds, rate):
    """Reads as fast as the line takes it, and writes each piece when its time is due."""
    line, clock = asyncio.Queue(AHEAD), asyncio.get_running_loop()

    async def read():
        free = clock.time()
        while piece := await reader.read(PIECE):
            free = max(free, clock.time()) + len(piece) / rate
            await line.put((free + seconds, piece))
        await line.put((clock.time() + seconds, b""))

    reading = asyncio.create_task(read())
    try:
        while True:
            due, piece = await line.get()
            await asyncio.sleep(max(0, due - clock.time()))
            if not piece:
                break
            writer.write(piece)
            await writer.drain()
    except OSError:
        pass
    finally:
        reading.cancel()
        writer.close()


async def main(listen, to, seconds, rate):
    async def meet(reader, writer):
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", to)
        except OSError:
            writer.close()
            return
        there, back = carry(reader, far_writer, seconds / 2, float("inf")), carry(far_reader, writer, seconds / 2, rate)
        await asyncio.gather(there, back, return_exceptions=True)

    async with await asyncio.start_server(meet, "127.0.0.1", listen) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]) / 1000, float(sys.argv[4])))
