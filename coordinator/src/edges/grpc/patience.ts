import { constants } from 'node:http2';
import { ServerInterceptingCall, status, type ServerInterceptor } from '@grpc/grpc-js';

/** The private part of a call that resets its stream (grpc-js 1.14.7). */
interface CallInside {
  stream?: { close(code: number): void };
}

/**
 * Ends calls whose other side lets the server wait: every message has to be whole within `patienceMs`, counted from when the
 * handler asks for it, and what the server sends has to be taken within the same time. With messages of up to one chunk
 * that is a least rate as well. grpc-js has no such limit and keeps calls that are half open.
 */
export function patient(patienceMs: number): ServerInterceptor {
  return (_, call) => {
    const { stream } = call as unknown as CallInside;
    if (stream === undefined) throw new Error('grpc-js has changed inside: patient must be looked at again');
    let sending = 0;
    const reading = timerOf(patienceMs, () => {
      const details = `no message for ${patienceMs} ms: the call is ended`;
      call.sendStatus({ code: status.DEADLINE_EXCEEDED, details });
    });
    // A status would wait behind what is not taken.
    const writing = timerOf(patienceMs, () => stream.close(constants.NGHTTP2_CANCEL));
    const over = (): void => {
      reading.stop();
      writing.stop();
    };
    const intercepted = new ServerInterceptingCall(call, {
      start: (next) =>
        next({
          onReceiveMessage: (message, nextMessage) => {
            reading.stop();
            nextMessage(message);
          },
          onReceiveHalfClose: (nextHalfClose) => {
            reading.stop();
            nextHalfClose();
          },
          onCancel: over,
        }),
      sendStatus: (sent, next) => {
        over();
        next(sent);
      },
    });
    const startRead = intercepted.startRead.bind(intercepted);
    intercepted.startRead = () => {
      reading.start();
      startRead();
    };
    const sendMessage = intercepted.sendMessage.bind(intercepted);
    intercepted.sendMessage = (message, callback) => {
      if (sending++ === 0) writing.start();
      sendMessage(message, () => {
        // One was taken: the next ones have their time anew.
        if (--sending === 0) writing.stop();
        else writing.start();
        callback();
      });
    };
    return intercepted;
  };
}

function timerOf(ms: number, onDue: () => void): { start(): void; stop(): void } {
  let timer: NodeJS.Timeout | undefined;
  const stop = (): void => clearTimeout(timer);
  const start = (): void => {
    stop();
    timer = setTimeout(onDue, ms);
    // A server that closes does not wait for it.
    timer.unref();
  };
  return { start, stop };
}
