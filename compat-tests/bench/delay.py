"""Passes TCP on to another port of this machine, each piece half a round trip later, as a distant server would be reached.

    python3 delay.py LISTEN-PORT TO-PORT ROUND-TRIP-MS
"""
import asyncio
import sys

PIECE = 1 << 16
AHEAD = 64  # pieces on their way in one direction: what a wide line holds


async def carry(reader, writer, seconds):
    """Reads as fast as it comes, and writes each piece when its time is due."""
    line, clock = asyncio.Queue(AHEAD), asyncio.get_running_loop()

    async def read():
        while piece := await reader.read(PIECE):
            await line.put((clock.time() + seconds, piece))
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


async def main(listen, to, seconds):
    async def meet(reader, writer):
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", to)
        except OSError:
            writer.close()
            return
        await asyncio.gather(carry(reader, far_writer, seconds / 2), carry(far_reader, writer, seconds / 2), return_exceptions=True)

    async with await asyncio.start_server(meet, "127.0.0.1", listen) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]) / 1000))
