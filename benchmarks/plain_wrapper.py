"""What many put behind an address: the pipeline of transformers in a few lines of FastAPI. See `serving.py --wrapper`.

python benchmarks/plain_wrapper.py MODEL PORT    # needs transformers 4.57, fastapi, uvicorn and python-multipart
"""

import io
import sys

import soundfile
import uvicorn
from fastapi import FastAPI, UploadFile
from transformers import pipeline

app = FastAPI()
recognizer = pipeline("automatic-speech-recognition", model=sys.argv[1])


@app.post("/v1/audio/transcriptions")
def transcribe(file: UploadFile) -> dict[str, str]:
    """FastAPI runs this in one of its threads."""
    samples, rate = soundfile.read(io.BytesIO(file.file.read()), dtype="float32")
    return {"text": recognizer({"raw": samples, "sampling_rate": rate})["text"]}


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="error")
