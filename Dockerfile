# A server for one model, with the README's own commands:
#   docker build -t wav2vec2 . && docker run -p 8000:8000 -e WAV2VEC2_API_KEY=... wav2vec2 --model facebook/wav2vec2-base-960h
# On NVIDIA GPUs: docker run --gpus all ...
FROM python:3.11-slim
WORKDIR /wav2vec2
COPY . .
ENV PIP_NO_CACHE_DIR=1
RUN pip install -c constraints.txt ".[torch,serve,media,lm]"
RUN useradd --create-home wav2vec2
USER wav2vec2
RUN mkdir -p /home/wav2vec2/.cache/huggingface
EXPOSE 8000
ENTRYPOINT ["wav2vec2", "serve", "--host", "0.0.0.0"]
