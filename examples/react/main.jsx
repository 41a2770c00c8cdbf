// A page in React that follows a model: what is drawn is recognised by the newest version, and a person may say what it was.
import { StrictMode, useEffect, useRef, useState } from 'react';
import { createRoot } from 'react-dom/client';
import { useModel } from './use-model.js';

const parameters = new URLSearchParams(location.search);
const url = parameters.get('url') ?? 'http://127.0.0.1:8080';
const name = parameters.get('model') ?? 'digits';

function Pad({ onDraw }) {
  const canvas = useRef(null);
  const draw = ({ buttons, offsetX, offsetY, movementX, movementY }) => {
    if (buttons === 0) return;
    const paper = canvas.current.getContext('2d', { willReadFrequently: true });
    paper.strokeStyle = 'white';
    [paper.lineWidth, paper.lineCap] = [22, 'round'];
    paper.beginPath();
    paper.moveTo(offsetX - movementX, offsetY - movementY);
    paper.lineTo(offsetX, offsetY);
    paper.stroke();
    // 280 by 280: the model's contract says to what size.
    onDraw(paper.getImageData(0, 0, 280, 280));
  };
  const clear = () => {
    canvas.current.getContext('2d').clearRect(0, 0, 280, 280);
    onDraw(undefined);
  };
  return (
    <>
      <canvas ref={canvas} width="280" height="280" onPointerMove={({ nativeEvent }) => draw(nativeEvent)} />
      <p>
        <button onClick={clear}>Clear</button>
      </p>
    </>
  );
}

function App() {
  const { model, version, error } = useModel(url, name, { feedback: true });
  const [image, setImage] = useState();
  const [answer, setAnswer] = useState();
  useEffect(() => {
    // Again with each version: what is drawn may be something else to the next one.
    let isOver = false;
    if (model === undefined || image === undefined) return setAnswer(undefined);
    model.predict({ [model.contract.inputs[0].name]: image }).then(({ id, outputs }) => {
      const scores = Array.from(Object.values(outputs)[0].data);
      if (!isOver) setAnswer({ id, digit: scores.indexOf(Math.max(...scores)) });
    }, console.error);
    return () => {
      isOver = true;
    };
  }, [model, version, image]);
  const isRight = async () => {
    await model.feedback(answer.id, { label: answer.digit });
    setAnswer({ ...answer, id: undefined });
  };
  return (
    <main data-version={version}>
      <h1>Draw a digit</h1>
      <Pad onDraw={setImage} />
      <output>{answer?.digit}</output>
      {answer?.id && <button onClick={isRight}>That is right</button>}
      <p>{version === undefined ? 'waiting for a first version' : `version ${version} serves`}</p>
      {error && <p role="alert">{error.message}</p>}
    </main>
  );
}

createRoot(document.getElementById('root')).render(
  <StrictMode>
    <App />
  </StrictMode>,
);
